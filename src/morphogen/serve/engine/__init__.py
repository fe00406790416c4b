"""A process for each model: started when it is first needed, ended when memory is short."""
