"""What people look at: tables, pictures, model cards, and the page of scores."""
