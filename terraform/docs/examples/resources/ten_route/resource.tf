resource "ten_service" "shop" {
  name    = "shop"
  command = "python3 -m http.server {port}"
}

resource "ten_fleet" "shop" {
  for_each = { v1 = 2, v2 = 1 }

  service  = ten_service.shop.name
  name     = each.key
  replicas = each.value
}

# Of ten requests for the host nine go to v1.
resource "ten_route" "shop" {
  name  = "shop"
  hosts = ["shop.example.com"]

  backends = [
    { service = ten_service.shop.name, fleet = ten_fleet.shop["v1"].name, weight = 90 },
    { service = ten_service.shop.name, fleet = ten_fleet.shop["v2"].name, weight = 10 },
  ]
}

# A path of the cluster's own domain, answered for while there is nothing behind it.
resource "ten_route" "billing" {
  name    = "billing"
  paths   = ["/billing"]
  mode    = "maintenance"
  message = "Back at noon."
}
