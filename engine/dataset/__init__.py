"""What a data set is made of: rows, their splits, and what is kept out of them."""
