"""The domain: what is in stock, what can be bought, and how the catalogue gets in."""
