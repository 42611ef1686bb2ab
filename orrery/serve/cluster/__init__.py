"""More than one process: replicas behind one router (Ray Serve), and one model divided among ranks (torchrun)."""
