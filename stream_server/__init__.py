"""Live stock for shops on Postgres: a row changes, every browser knows."""
