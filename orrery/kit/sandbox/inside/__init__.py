"""What runs inside a jail: plain standard-library Python, sent there as text, importing nothing else of ours."""
