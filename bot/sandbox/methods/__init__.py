"""The Web API: one function a method, one file a family of methods."""
