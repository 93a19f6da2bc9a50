"""Small tools that know nothing of incidents."""
