"""The payment service: captures what an order costs, and gives it back when the stock is refused."""
