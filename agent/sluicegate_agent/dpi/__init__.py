"""Deep packet inspection: what runs over the wire, and what is to be done about it."""
