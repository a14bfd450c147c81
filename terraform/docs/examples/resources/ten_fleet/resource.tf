resource "ten_service" "api" {
  name    = "api"
  command = "python3 -m http.server {port}"
}

# api:main-0, api:main-1 and api:main-2, in as many zones as there are.
resource "ten_fleet" "main" {
  service   = ten_service.api.name
  name      = "main"
  replicas  = 3
  placement = { spread_by = "zone" }
}

# One more for a new version, with a tenth of the traffic that the others have.
resource "ten_fleet" "canary" {
  service  = ten_service.api.name
  name     = "canary"
  replicas = 1
  weight   = 10
}
