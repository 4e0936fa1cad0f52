"""The file contracts of PanDA's HPO (`phpo`): what steering and evaluation commands written for it read and write."""
