"""What is kept between calls: anchors, what gates look back at, the state of each run."""
