"""The program `hpo-evaluate`: a worker takes points, runs the user's training for each, and sends back the results."""
