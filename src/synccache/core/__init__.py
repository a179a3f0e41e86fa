"""The words that the engine, the axes, anatomies and methods share; nothing here touches a model."""
