"""Catalogue files, read row by row: what they say, and where each mistake stands.

    text        bytes -> pieces of text; what is not UTF-8 is named with line and byte
    json_rows   text -> rows, each with its place
    csv_rows    text -> rows, each with its place
    entries     a row -> the fields of products and variants, or what is wrong with them
    looks       an id -> what it looks like, and what of it cannot be seen

A file is never in memory as a whole.
"""
