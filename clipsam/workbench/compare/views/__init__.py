"""What can be seen of an answer: masks, maps, errors, and where methods agree."""
