"""The program `hpo-evaluate`: takes points, runs the user's training for each, sends the results."""
