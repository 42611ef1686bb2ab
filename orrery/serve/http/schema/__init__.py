"""What bodies may say, a file an endpoint. A field that is not listed is refused: nothing a caller asks for is silently left out."""
