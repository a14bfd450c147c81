# terraform query -generate-config-out=found.tf
list "ten_route" "all" {
  provider         = ten
  include_resource = true
}
