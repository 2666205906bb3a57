"""The domain: stock, reservations, orders and payments, and the import of the catalogue."""
