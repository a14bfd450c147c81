# By its name, service:name.
terraform import ten_fleet.main api:main
