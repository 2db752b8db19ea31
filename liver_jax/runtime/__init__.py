"""What every job needs of the machine: devices, checkpoints, logs, the run folder."""
