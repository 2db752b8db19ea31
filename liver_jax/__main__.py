"""`python -m liver_jax COMMAND` is `liver-jax COMMAND`."""

from liver_jax.cli import main

if __name__ == '__main__':
    main()
