"""The worker API over gRPC: servicer (what calls mean), carrier (how they travel), and conversions."""
