"""The program hpo-steer: asks for points, sends them out, writes down what comes back."""
