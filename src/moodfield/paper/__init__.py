"""The paper: recipes, Table 1, Figure 1."""
