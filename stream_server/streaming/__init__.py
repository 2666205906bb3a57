"""From the log in Postgres to every open stream: source, hub, publisher, frames, responses."""
