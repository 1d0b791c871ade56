"""What happens to a record between its converter and the point it becomes?"""
