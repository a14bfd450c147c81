# terraform query -generate-config-out=found.tf
list "ten_node" "all" {
  provider         = ten
  include_resource = true
}
