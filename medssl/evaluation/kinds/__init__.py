"""How each kind of task is judged: rows of cases, and what is said about them."""
