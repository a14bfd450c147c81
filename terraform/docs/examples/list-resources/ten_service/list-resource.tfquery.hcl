# terraform query -generate-config-out=found.tf
list "ten_service" "all" {
  provider         = ten
  include_resource = true
}
