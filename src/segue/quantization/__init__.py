"""How weights become integers and scales: the methods behind a recipe."""
