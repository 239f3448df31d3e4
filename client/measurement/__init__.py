"""What a device contributes to measurements of placements: bounded counts of one day. Read here, sent by the door."""
