# terraform query -generate-config-out=found.tf
list "ten_fleet" "api" {
  provider         = ten
  include_resource = true

  config {
    service = "api"
  }
}
