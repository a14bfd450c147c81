resource "ten_service" "notes" {
  name    = "notes"
  command = "python3 -m http.server {port}"
}

# One for each customer, served at CUSTOMER.notes.DOMAIN.
resource "ten_instance" "customer" {
  for_each = toset(["alice", "bob"])

  service = ten_service.notes.name
  id      = each.key
}

# One that stays on a node, has no part in the traffic to the service as a whole, and is
# waited for until it is healthy, for five minutes at most.
resource "ten_instance" "canary" {
  service  = ten_service.notes.name
  id       = "canary"
  pin      = "n1"
  weight   = 0
  timeouts = { create = "5m" }
}
