"""HTTP/1.1 as it is spoken: strict with heads, patient with slow clients, but not for ever."""
