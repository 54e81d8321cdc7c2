-- How often the destination has refused a delivery. Only the oldest of a key is ever attempted, so only that has a number.
ALTER TABLE heads ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
