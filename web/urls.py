"""The pages for people. All of them are for who may use the admin."""

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from cachemgr.clean_page import clean_page
from cachemgr.pages import settings_page

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="settings-page"), name="home"),
    path("settings", admin.site.admin_view(settings_page), name="settings-page"),
    path("settings/clean", admin.site.admin_view(clean_page), name="clean-page"),
]
