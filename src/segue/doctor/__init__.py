"""`segue doctor`: what a bug report needs, and what is wrong with this installation."""
