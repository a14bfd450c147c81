# By its id, which `ten token list` tells. Its secret is not needed.
terraform import ten_token.ci 0123456789ab
