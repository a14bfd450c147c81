# By its name.
terraform import ten_service.web web
