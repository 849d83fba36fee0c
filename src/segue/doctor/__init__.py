"""`segue doctor`: collect what a bug report needs, and find problems of this installation."""
