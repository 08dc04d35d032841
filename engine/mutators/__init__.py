"""Those who propose repairs: what they are asked, what they answer, and the three that are built in."""
