"""How a caller proves who it is: tokens of this installation, and those of an OpenID provider."""
