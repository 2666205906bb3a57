"""Imports of a catalogue, from a file to the tables.

    text        bytes -> pieces of text; bytes that are not UTF-8 are named with line and byte
    json_rows   text -> rows, each with its place
    csv_rows    text -> rows, each with its place
    fields      a row -> the fields of products and variants, or its mistakes
    looks       an id -> how people see it, and which of its characters cannot be seen
    models      the rows and results that these pass on
    run         one import: stages the rows, checks them and merges them into the tables
    record      each import's record: who, when, which file, how it ended

A file is never in memory as a whole.
"""
