# terraform query -generate-config-out=found.tf
list "ten_instance" "notes" {
  provider         = ten
  include_resource = true

  config {
    service = "notes"
  }
}
