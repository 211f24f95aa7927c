"""How an operation is declared, proved, limited, read, repeated safely, answered and described."""
