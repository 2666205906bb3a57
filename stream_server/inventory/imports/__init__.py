"""The import of a catalogue, from a file to the tables.

    text        bytes -> pieces of text; errors name line and byte of invalid UTF-8
    json_rows   text -> rows with their places
    csv_rows    text -> rows with their places
    fields      a row -> the fields of products and variants, or its mistakes
    looks       an id -> its appearance, and its invisible characters
    models      the records that these modules share
    run         one import: stages the rows, checks them and merges them into the tables
    record      the record of an import: actor, time, file, result

A file is never in memory as a whole.
"""
