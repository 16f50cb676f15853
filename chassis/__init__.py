"""What every service stands on, and no service's business."""
