"""What the shapes of all files share: nothing is ignored, nothing is guessed."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictInt


class Strict(BaseModel):
    """The shape of a part of a file: what it does not name is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _version(value: Any) -> Any:
    if isinstance(value, bool) or value != 1:
        raise ValueError("must be 1, the only version there is")
    return value


Version = Annotated[StrictInt, BeforeValidator(_version)]
