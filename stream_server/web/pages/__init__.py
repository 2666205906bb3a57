"""The pages that the server renders, and their pictures."""
