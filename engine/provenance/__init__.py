"""Why something is as it is, and what came of it: the graph of what each recorded event rests on."""
