# terraform query -generate-config-out=found.tf
list "ten_token" "all" {
  provider         = ten
  include_resource = true
}
