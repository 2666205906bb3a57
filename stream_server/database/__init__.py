"""All that knows how Postgres is reached: the pool, the migrations, the embedded server."""
