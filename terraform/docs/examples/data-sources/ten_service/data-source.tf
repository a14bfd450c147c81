# A service that is declared elsewhere. The names of its variables are told, their values
# are not.
data "ten_service" "web" {
  name = "web"
}

output "variables" {
  value = data.ten_service.web.env_names
}
